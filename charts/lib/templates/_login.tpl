{{/*
Pages that have no login of their own, so that the chart oauth2-proxy signs people in for them: the port of the page, the port
of the proxy's metrics, and the roles that may use the page, from the one with the fewest rights on.
*/}}
{{- define "lib.pagesBehindLogin" -}}
streamlit: {port: 8501, metrics: 4101, roles: [viewer, operator, admin]}
prometheus: {port: 9090, metrics: 4102, roles: [operator, admin]}
{{- end }}

{{/*
"true" if the Ingress of a page leads to oauth2-proxy, otherwise empty: (dict "name" "streamlit" "ingress" .Values.ingress).
It leads to the page itself if another authentication is in front, or if the values consent to a page that is open to all.
*/}}
{{- define "lib.behindLogin" -}}
{{- $pages := include "lib.pagesBehindLogin" . | fromYaml }}
{{- if and (hasKey $pages .name) (not .ingress.iKnowThisIsOpen) (not (include "lib.authenticates" .ingress)) }}true{{ end }}
{{- end }}

{{/*
"true" if the ingress controller connects to a page directly, otherwise empty; arguments as for lib.behindLogin.
*/}}
{{- define "lib.direct" -}}
{{- if and .ingress.enabled (not (include "lib.behindLogin" .)) }}true{{ end }}
{{- end }}

{{/*
Annotations that put authentication in front of an Ingress, as a JSON list. An annotation counts if it has a value: the
charts cannot check that a middleware of Traefik, for example, asks for a login.
*/}}
{{- define "lib.authAnnotations" -}}
{{- list "traefik.ingress.kubernetes.io/router.middlewares" "nginx.ingress.kubernetes.io/auth-url" "nginx.ingress.kubernetes.io/auth-type" | toJson }}
{{- end }}

{{/*
"true" if an Ingress (.Values.ingress) has one of these annotations, otherwise empty.
*/}}
{{- define "lib.authenticates" -}}
{{- $annotations := .annotations | default dict }}
{{- range include "lib.authAnnotations" . | fromJsonArray }}
{{- if get $annotations . }}true{{ end }}
{{- end }}
{{- end }}
