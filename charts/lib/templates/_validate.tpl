{{/*
Checks that a JSON schema cannot express. One failure lists all wrong values, each with path, reason and remedy.
`resources` maps paths to requests and limits; `more` is a list of further errors.

  (dict "root" $ "chart" "fastapi" "resources" (dict "resources" .Values.resources))
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
