{{/*
Not empty if backups are enabled.
*/}}
{{- define "postgres.backups" -}}
{{- if dig "backup" "enabled" false (.Values.global | default dict) }}true{{ end }}
{{- end }}

{{/*
Errors in the values of backups, as a JSON list.
*/}}
{{- define "postgres.backupErrors" -}}
{{- $wrong := list }}
{{- if include "postgres.backups" . }}
{{- $s3 := .Values.backup.target.s3 }}
{{- if and $s3.endpoint (not $s3.bucket) }}
{{- $wrong = append $wrong "postgres.backup.target.s3.bucket is empty while the endpoint is set: name an existing bucket" }}
{{- end }}
{{- if and $s3.endpoint (not .Values.global.backup.cidr) }}
{{- $wrong = append $wrong "global.backup.cidr is empty while postgres.backup.target.s3.endpoint is set: set the network of that endpoint, or the NetworkPolicy blocks every backup" }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}
