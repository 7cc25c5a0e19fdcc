{{/*
Scheduling of the pods of a component: where they may run, and how long they stay on a lost node.

  (dict "root" $ "name" "fastapi" "values" .Values "failover" true)

`values` holds nodeSelector, tolerations, affinity and topologySpreadConstraints, in the format of the pod spec. A spread
constraint without a labelSelector gets the selector of the component. Set `failover` for pods that can start on any node:
Kubernetes taints a lost node, and they leave it after `global.failoverSeconds` instead of the default 300 s. Do not set
it for pods with a ReadWriteOnce volume. A toleration of the same taint in `values` takes precedence.
*/}}
{{- define "lib.placement" -}}
{{- $values := .values }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := $values.tolerations | default list }}
{{- if .failover }}
{{- $seconds := dig "failoverSeconds" 30 (.root.Values.global | default dict) | int }}
{{- $own := list }}
{{- range $tolerations }}
{{- $own = append $own .key }}
{{- end }}
{{- range $taint := list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" }}
{{- if not (has $taint $own) }}
{{- $tolerations = append $tolerations (dict "key" $taint "operator" "Exists" "effect" "NoExecute" "tolerationSeconds" $seconds) }}
{{- end }}
{{- end }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- toYaml . | nindent 4 }}
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels:
        {{- include "lib.selector" (dict "name" $.name) | nindent 8 }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}
