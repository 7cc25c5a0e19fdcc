{{/*
Every role that the server creates, as a JSON list.
*/}}
{{- define "postgres.roles" -}}
{{- $roles := concat (values .Values.databases) (keys .Values.roles) }}
{{- if include "postgres.backups" . }}
{{- $roles = append $roles "backup" }}
{{- end }}
{{- $roles | uniq | sortAlpha | toJson }}
{{- end }}

{{/*
Errors in the limits of connections, as a JSON list.
*/}}
{{- define "postgres.limitErrors" -}}
{{- $wrong := list }}
{{- $sum := 0 }}
{{- range include "postgres.roles" . | fromJsonArray }}
{{- $limit := get $.Values.connectionLimits . | default 0 | int }}
{{- $sum = add $sum $limit }}
{{- if not $limit }}
{{- $wrong = append $wrong (printf "postgres.connectionLimits.%s is missing: set the number of connections that the role %s needs at a time" . .) }}
{{- end }}
{{- end }}
{{- $all := dig "max_connections" "100" .Values.settings | int }}
{{- $reserved := dig "superuser_reserved_connections" "3" .Values.settings | int }}
{{- if gt (int $sum) (sub $all $reserved | int) }}
{{- $wrong = append $wrong (printf "postgres.connectionLimits allow %d connections, and postgres.settings.max_connections (%d) less %d for the superuser are fewer: raise the setting, or lower a limit" $sum $all $reserved) }}
{{- end }}
{{- toJson $wrong }}
{{- end }}
