{{/*
Security context of a restricted pod: (dict "uid" 10001).
*/}}
{{- define "lib.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .uid | default 10001 }}
runAsGroup: {{ .uid | default 10001 }}
fsGroup: {{ .uid | default 10001 }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "lib.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/*
A ServiceAccount without a token: (dict "root" $ "name" "postgres").
*/}}
{{- define "lib.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "lib.labels" (dict "name" .name) | nindent 4 }}
automountServiceAccountToken: false
{{- end }}

{{/*
Data of a ConfigMap: (dict "root" $ "config" .Values.config). Keys are spelled mechanically: dataApiUrl is DATA_API_URL.
Values may be templates, so that a default can name the release's namespace. Helm reads numbers as floats, and toString
writes those from a million on as 1e+06; toJson does not.
*/}}
{{- define "lib.configData" -}}
{{- $root := .root }}
{{- range $key, $value := .config }}
{{ $key | snakecase | upper }}: {{ tpl (kindIs "float64" $value | ternary (toJson $value) (toString $value)) $root | quote }}
{{- end }}
{{- end }}

{{/*
Restarts pods when what they read changes: (dict "root" $ "config" .Values.config), or "text" of anything else.
*/}}
{{- define "lib.checksum" -}}
checksum/config: {{ .text | default (include "lib.configData" .) | sha256sum }}
{{- end }}

{{/*
An Ingress for one page: (dict "root" $ "name" "mlflow" "service" "mlflow" "port" 5000 "ingress" .Values.ingress).
*/}}
{{- define "lib.ingress" -}}
{{- if .ingress.enabled }}
{{- $class := .ingress.className | default (dig "ingress" "className" "" (.root.Values.global | default dict)) }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "lib.labels" (dict "name" .name) | nindent 4 }}
  {{- with .ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $class }}
  ingressClassName: {{ . }}
  {{- end }}
  rules:
    - host: {{ required (printf "%s: ingress.host is empty: name the host of this page, or set ingress.enabled to false" .name) .ingress.host }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ .service }}
                port:
                  number: {{ .port }}
  {{- with .ingress.tlsSecret }}
  tls:
    - hosts: [{{ $.ingress.host }}]
      secretName: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
