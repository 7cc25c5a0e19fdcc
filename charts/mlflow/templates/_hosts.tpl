{{/*
Host names under which clients may call the server. The match is exact and includes the port.
*/}}
{{- define "mlflow.allowedHosts" -}}
{{- $ns := .Release.Namespace }}
{{- $names := list "mlflow" (printf "mlflow.%s" $ns) (printf "mlflow.%s.svc" $ns) (printf "mlflow.%s.svc.cluster.local" $ns) }}
{{- $hosts := list "localhost:*" "127.0.0.1:*" }}
{{- range $names }}
{{- $hosts = concat $hosts (list . (printf "%s:5000" .)) }}
{{- end }}
{{- if .Values.ingress.enabled }}
{{- $hosts = append $hosts .Values.ingress.host }}
{{- end }}
{{- concat $hosts .Values.allowedHosts | join "," }}
{{- end }}
