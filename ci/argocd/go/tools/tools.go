//go:build tools

// Package tools names the programs that are built here, so that `go mod tidy` keeps their modules.
package tools

import (
	_ "github.com/argoproj/argo-cd/v3/cmd"
	_ "helm.sh/helm/v4/cmd/helm"
)
