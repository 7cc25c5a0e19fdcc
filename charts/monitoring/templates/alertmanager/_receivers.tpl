{{/*
Keys of the receivers' Secret that the enabled receivers read, as a JSON list.
*/}}
{{- define "monitoring.receiverKeys" -}}
{{- $keys := list }}
{{- with .Values.alertmanager.receivers }}
{{- if .webhook.enabled }}{{ $keys = append $keys "webhook-url" }}{{ end }}
{{- if .slack.enabled }}{{ $keys = append $keys "slack-url" }}{{ end }}
{{- if and .email.enabled .email.username }}{{ $keys = append $keys "smtp-password" }}{{ end }}
{{- if .heartbeat.enabled }}{{ $keys = append $keys "heartbeat-url" }}{{ end }}
{{- if .privateAuthority }}{{ $keys = append $keys "ca.crt" }}{{ end }}
{{- end }}
{{- toJson $keys }}
{{- end }}

{{/*
Ports of the enabled receivers without duplicates, as a JSON list. A hand-written `alertmanager.config` sends to port 443.
*/}}
{{- define "monitoring.receiverPorts" -}}
{{- $ports := list }}
{{- with .Values.alertmanager }}
{{- if .config }}{{ $ports = append $ports 443 }}{{ end }}
{{- with .receivers }}
{{- if .webhook.enabled }}{{ $ports = append $ports (int .webhook.port) }}{{ end }}
{{- if .slack.enabled }}{{ $ports = append $ports 443 }}{{ end }}
{{- if .email.enabled }}{{ $ports = append $ports (.email.smarthost | splitList ":" | last | int) }}{{ end }}
{{- if .heartbeat.enabled }}{{ $ports = append $ports (int .heartbeat.port) }}{{ end }}
{{- end }}
{{- end }}
{{- $ports | uniq | sortAlpha | toJson }}
{{- end }}

{{/*
Wrong combinations of receivers, as a JSON list of messages for lib.validate.
*/}}
{{- define "monitoring.receiverErrors" -}}
{{- $wrong := list }}
{{- $on := list }}
{{- $outside := dig "notifications" "cidr" "" (.Values.global | default dict) }}
{{- with .Values.alertmanager }}
{{- $receivers := .receivers }}
{{- range list "webhook" "slack" "email" "heartbeat" }}
{{- if (get $receivers .).enabled }}{{ $on = append $on (printf "monitoring.alertmanager.receivers.%s" .) }}{{ end }}
{{- end }}
{{- if and .config $on }}
{{- $wrong = append $wrong (printf "monitoring.alertmanager.config replaces the whole configuration, so %s has no effect: set monitoring.alertmanager.config to {}, or turn the receiver off" (join ", " $on)) }}
{{- end }}
{{- if $receivers.email.enabled }}
{{- range $key, $example := dict "smarthost" "smtp.house.example:587" "from" "alerts@house.example" "to" "team@house.example" }}
{{- if not (get $receivers.email $key) }}
{{- $wrong = append $wrong (printf "monitoring.alertmanager.receivers.email.%s is empty: set it, for example to %s, or set receivers.email.enabled to false" $key $example) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $on (empty $outside) }}
{{- $wrong = append $wrong (printf "global.notifications.cidr is empty, so the NetworkPolicy stops every notification to %s: set it to the network of the receivers, for example 10.43.100.104/32" (join ", " $on)) }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}
