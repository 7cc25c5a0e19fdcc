{{/*
name:value,name:value of a map, in the order of the names; a name alone where the value is empty.
*/}}
{{- define "postgres.pairs" -}}
{{- $pairs := list }}
{{- range $name, $value := . }}
{{- $pairs = append $pairs (ternary (printf "%s:%s" $name $value) $name (not (empty $value))) }}
{{- end }}
{{- join "," $pairs }}
{{- end }}
