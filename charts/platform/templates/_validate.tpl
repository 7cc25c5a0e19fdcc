{{/*
Checks of values across components, which no component can make: Ingresses that lead to the login need the login.
*/}}
{{- define "platform.validate" -}}
{{- $without := dict }}
{{- range $name, $values := .Values }}
{{- if and (kindIs "map" $values) (eq (get $values "enabled" | toString) "false") }}
{{- $_ := set $without $name true }}
{{- end }}
{{- end }}
{{- $wrong := list }}
{{- range $page := include "lib.pagesBehindLogin" . | fromYaml }}
{{- $parts := splitList "." $page.ingress }}
{{- $ingress := $.Values }}
{{- range $parts }}
{{- $ingress = get $ingress . | default dict }}
{{- end }}
{{- if and $ingress.enabled (not $ingress.iKnowThisIsOpen) (hasKey $without "oauth2-proxy") (not (hasKey $without (first $parts))) }}
{{- $wrong = append $wrong (printf "%s leads to the login, and oauth2-proxy.enabled is false: remove oauth2-proxy.enabled, or set %s.enabled to false" $page.ingress $page.ingress) }}
{{- end }}
{{- end }}
{{- include "lib.validate" (dict "root" $ "chart" "platform" "more" $wrong) }}
{{- end }}
