{{/*
Checks that a JSON schema cannot express. One failure lists all wrong values, each with path, reason and remedy.
`resources` maps paths to requests and limits. `open` maps paths to Ingresses that have no login behind them: each needs
authentication in front, or the consent `iKnowThisIsOpen`. `login` is a further remedy, for a chart that can require a login
itself. `page` is a page of lib.pagesBehindLogin and `path` the path of its Ingress: the login needs TLS. `more` is a list of
further errors.

  (dict "root" $ "chart" "fastapi" "resources" (dict "resources" .Values.resources) "open" (dict "ingress" .Values.ingress))
  (dict "root" $ "chart" "streamlit" "page" "streamlit" "path" "ingress" "ingress" .Values.ingress)
*/}}
{{- define "lib.validate" -}}
{{- $wrong := list }}
{{- $chart := .chart }}
{{- range $path, $resources := .resources }}
{{- $request := dig "requests" "memory" "" $resources }}
{{- $limit := dig "limits" "memory" "" $resources }}
{{- if and $request $limit (gt (include "lib.bytes" $request | int64) (include "lib.bytes" $limit | int64)) }}
{{- $wrong = append $wrong (printf "%s.%s.limits.memory (%s) is below requests.memory (%s): raise the limit or lower the request" $chart $path $limit $request) }}
{{- end }}
{{- end }}
{{- $login := .login }}
{{- range $path, $ingress := .open }}
{{- if and $ingress.enabled (not $ingress.iKnowThisIsOpen) (not (include "lib.authenticates" $ingress)) }}
{{- $full := printf "%s.%s" $chart $path }}
{{- $remedies := list (printf "set an annotation in %s.annotations that puts authentication in front (%s)" $full (include "lib.authAnnotations" . | fromJsonArray | join " or ")) (printf "set %s.iKnowThisIsOpen to true if everyone may use it" $full) }}
{{- with $login }}
{{- $remedies = prepend $remedies . }}
{{- end }}
{{- $wrong = append $wrong (printf "%s has no login behind it: %s, or set %s.enabled to false" $full (join ", " $remedies) $full) }}
{{- end }}
{{- end }}
{{- if .page }}
{{- $plain := dig "login" "plainHttp" false (.root.Values.global | default dict) }}
{{- if and .ingress.enabled (not .ingress.tlsSecret) (not $plain) (include "lib.behindLogin" (dict "name" .page "ingress" .ingress)) }}
{{- $full := printf "%s.%s" $chart .path }}
{{- $wrong = append $wrong (printf "%s.tlsSecret is empty, so the login would send passwords in plain text: set it to the name of a TLS Secret, or, in a network that you trust, set global.login.plainHttp to true" $full) }}
{{- else if and .ingress.enabled .ingress.tlsSecret $plain (include "lib.behindLogin" (dict "name" .page "ingress" .ingress)) }}
{{- $wrong = append $wrong (printf "%s.%s.tlsSecret is set, and global.login.plainHttp is true, so this page would have cookies for plain HTTP: set global.login.plainHttp to false, and tlsSecret on every page" $chart .path) }}
{{- end }}
{{- end }}
{{- range .more }}
{{- $wrong = append $wrong . }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "\n\n%d invalid value(s):\n  - %s\n" (len $wrong) (join "\n  - " $wrong)) }}
{{- end }}
{{- end }}

{{/*
Bytes of a quantity such as 256Mi or 1Gi (the units that the schemas allow).
*/}}
{{- define "lib.bytes" -}}
{{- $quantity := . | toString }}
{{- if hasSuffix "Gi" $quantity }}{{ mulf (trimSuffix "Gi" $quantity | float64) 1073741824 | int64 }}
{{- else if hasSuffix "Mi" $quantity }}{{ mulf (trimSuffix "Mi" $quantity | float64) 1048576 | int64 }}
{{- else }}{{ $quantity | int64 }}{{ end }}
{{- end }}
