//go:build tools

// Package tools names kind, which is compiled from its module where it is not installed.
package tools

import _ "sigs.k8s.io/kind"
