// Test of argocd/argocd-cm.yaml alone: the interpreter in Argo CD's version, not Argo CD.
module house-platform/health

go 1.26

require (
	github.com/yuin/gopher-lua v1.1.2
	go.yaml.in/yaml/v3 v3.0.5
)
