//go:build tools

// Package tools imports the programs that this module builds, so that `go mod tidy` keeps their modules.
package tools

import (
	_ "github.com/argoproj/argo-cd/v3/cmd"
	_ "helm.sh/helm/v4/cmd/helm"
)
