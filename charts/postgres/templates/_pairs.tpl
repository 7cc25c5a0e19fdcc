{{/*
A map as `name:value,name:value`, ordered by name. An entry with an empty value is only its name.
*/}}
{{- define "postgres.pairs" -}}
{{- $pairs := list }}
{{- range $name, $value := . }}
{{- $pairs = append $pairs (ternary (printf "%s:%v" $name $value) $name (not (empty $value))) }}
{{- end }}
{{- join "," $pairs }}
{{- end }}
