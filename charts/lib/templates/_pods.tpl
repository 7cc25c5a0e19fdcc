{{/*
Security context of a pod, for the Pod Security Standard `restricted`: (dict "uid" 10001).
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
Data of a ConfigMap: (dict "root" $ "config" .Values.config). Each key becomes an environment variable: dataApiUrl is
DATA_API_URL. Values may be templates, so that a default can contain the namespace of the release. Helm reads numbers as
floats; toString would write a million as 1e+06, toJson does not.
*/}}
{{- define "lib.configData" -}}
{{- $root := .root }}
{{- range $key, $value := .config }}
{{ $key | snakecase | upper }}: {{ tpl (kindIs "float64" $value | ternary (toJson $value) (toString $value)) $root | quote }}
{{- end }}
{{- end }}

{{/*
Annotation that restarts pods when their configuration changes: (dict "root" $ "config" .Values.config), or (dict "text" $any).
*/}}
{{- define "lib.checksum" -}}
checksum/config: {{ .text | default (include "lib.configData" .) | sha256sum }}
{{- end }}

{{/*
An Ingress for one page: (dict "root" $ "name" "mlflow" "service" "mlflow" "port" 5000 "ingress" .Values.ingress). It serves
all paths, or exactly those of `ingress.paths`. The Ingress of a page of lib.pagesBehindLogin leads to oauth2-proxy, where the
page has the same port.
*/}}
{{- define "lib.ingress" -}}
{{- if .ingress.enabled }}
{{- $service := include "lib.behindLogin" . | empty | ternary .service "oauth2-proxy" }}
{{- $class := .ingress.className | default (dig "ingress" "className" "" (.root.Values.global | default dict)) }}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "lib.labels" (dict "name" .name) | nindent 4 }}
  {{- /* Without this one, Traefik also serves an Ingress with TLS over plain HTTP. Other controllers ignore it. */}}
  {{- $encrypted := empty .ingress.tlsSecret | ternary dict (dict "traefik.ingress.kubernetes.io/router.entrypoints" "websecure") }}
  {{- with merge dict (.ingress.annotations | default dict) $encrypted }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $class }}
  ingressClassName: {{ . }}
  {{- end }}
  rules:
    - host: {{ required (printf "%s: ingress.host is empty: set the host name of this page, or set ingress.enabled to false" .name) .ingress.host }}
      http:
        paths:
          {{- range .ingress.paths | default (list "/") }}
          - path: {{ . }}
            pathType: {{ eq . "/" | ternary "Prefix" "Exact" }}
            backend:
              service:
                name: {{ $service }}
                port:
                  number: {{ $.port }}
          {{- end }}
  {{- with .ingress.tlsSecret }}
  tls:
    - hosts: [{{ $.ingress.host }}]
      secretName: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
How to open a page, for NOTES.txt: the address of its Ingress, or else a tunnel.
(dict "root" $ "service" "mlflow" "port" 5000 "ingress" .Values.ingress); `ingress` is optional.
*/}}
{{- define "lib.open" -}}
{{- if (.ingress | default dict).enabled -}}
http{{ if .ingress.tlsSecret }}s{{ end }}://{{ .ingress.host }}
{{- else -}}
kubectl -n {{ .root.Release.Namespace }} port-forward svc/{{ .service }} {{ .port }}     # then http://localhost:{{ .port }}
{{- end }}
{{- end }}
