{{/*
Pages for which the chart oauth2-proxy signs people in: the path of the Ingress in the values, the port of the page, the port of
the proxy's metrics, and the roles that may use the page, lowest role first. `password` is the key of the Secret oauth2-proxy
with which the proxy proves the identity of a person to a page that has a login of its own.
*/}}
{{- define "lib.pagesBehindLogin" -}}
streamlit: {ingress: streamlit.ingress, port: 8501, metrics: 4101, roles: [viewer, operator, admin]}
prometheus: {ingress: monitoring.ingress.prometheus, port: 9090, metrics: 4102, roles: [operator, admin]}
mlflow: {ingress: mlflow.ingress, port: 5000, metrics: 4103, roles: [viewer, operator, admin], password: mlflow-password}
airflow-api: {ingress: airflow.ingress, port: 8080, metrics: 4104, roles: [viewer, operator, admin], password: airflow-password}
{{- end }}

{{/*
Groups that have a role, as a JSON list: (dict "root" $ "role" "admin"). Without groups of a provider there are local users:
each has one group, named after its role.
*/}}
{{- define "lib.groups" -}}
{{- $groups := dig "login" "groups" dict (.root.Values.global | default dict) | default dict }}
{{- $all := list }}
{{- range $role, $names := $groups }}
{{- range $names }}
{{- if contains "," . }}
{{- fail (printf "global.login.groups.%s has %q: the name of a group must not contain a comma, because the groups of a person are a list with commas" $role .) }}
{{- end }}
{{- $all = append $all . }}
{{- end }}
{{- end }}
{{- $all | empty | ternary (list .role) (get $groups .role | default list) | toJson }}
{{- end }}

{{/*
"true" if the Ingress of a page leads to oauth2-proxy, otherwise empty: (dict "name" "streamlit" "ingress" .Values.ingress).
It leads to the page itself only if the values consent, with `iKnowThisIsOpen`. Annotations do not count, because the charts
cannot tell a middleware that asks for a login from one that redirects.
*/}}
{{- define "lib.behindLogin" -}}
{{- $pages := include "lib.pagesBehindLogin" . | fromYaml }}
{{- if and (hasKey $pages .name) (not .ingress.iKnowThisIsOpen) }}true{{ end }}
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
