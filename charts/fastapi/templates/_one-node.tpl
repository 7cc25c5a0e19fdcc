{{/*
"true" if all pods must run on one node, because they share a ReadWriteOnce volume; otherwise empty.
*/}}
{{- define "fastapi.oneNode" -}}
{{- with .Values.cache.persistence }}
{{- if and .enabled (eq .accessMode "ReadWriteOnce") }}true{{ end }}
{{- end }}
{{- end }}
