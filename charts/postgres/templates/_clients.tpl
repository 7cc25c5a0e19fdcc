{{/*
The roles that may connect to a database besides its owner, as `database:role,database:role`.
*/}}
{{- define "postgres.clients" -}}
{{- $pairs := list }}
{{- range $database, $roles := .Values.clients }}
{{- range $roles }}
{{- $pairs = append $pairs (printf "%s:%s" $database .) }}
{{- end }}
{{- end }}
{{- if include "postgres.backups" . }}
{{- $pairs = append $pairs "ledger:backup" }}
{{- end }}
{{- join "," $pairs }}
{{- end }}

{{/*
Errors in the clients of databases, as a JSON list.
*/}}
{{- define "postgres.clientErrors" -}}
{{- $wrong := list }}
{{- $known := include "postgres.roles" . | fromJsonArray }}
{{- range $database, $roles := .Values.clients }}
{{- if not (hasKey $.Values.databases $database) }}
{{- $wrong = append $wrong (printf "postgres.clients.%s: postgres.databases has no database %s" $database $database) }}
{{- end }}
{{- range $roles }}
{{- if not (has . $known) }}
{{- $wrong = append $wrong (printf "postgres.clients.%s: postgres.roles has no role %s" $database .) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}
