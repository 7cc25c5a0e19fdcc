{{/*
Configuration of Alertmanager: `alertmanager.config` as it is, or the routes below with the enabled receivers. The URLs and
the password are files of the receivers' Secret, which Alertmanager reads for each notification.

A group is one alert, for ComponentDown and TargetDown one alert of one component: two components that fail one after the
other cause two notifications at once, and not the second one at the next group_interval.
*/}}
{{- define "monitoring.alertmanager" -}}
{{- if .Values.alertmanager.config }}
{{- toYaml .Values.alertmanager.config }}
{{- else }}
{{- $receivers := .Values.alertmanager.receivers }}
{{- $files := "/etc/receivers" }}
route:
  receiver: team
  group_by: [alertname, job]
  group_wait: 30s
  # the earliest time of a change or of the end of a group after its last notification
  group_interval: 2m
  # an alert that goes on is repeated once a day, a critical one six times
  repeat_interval: 24h
  routes:
    # for a dead man's switch: often, and to no person
    - matchers: ['alertname="Watchdog"']
      receiver: heartbeat
      group_wait: 0s
      group_interval: 1m
      repeat_interval: 2m
    - matchers: ['severity="critical"']
      receiver: team
      repeat_interval: 4h
receivers:
  - name: team
    {{- if $receivers.webhook.enabled }}
    webhook_configs:
      - url_file: {{ $files }}/webhook-url
        send_resolved: true
    {{- end }}
    {{- if $receivers.slack.enabled }}
    slack_configs:
      - api_url_file: {{ $files }}/slack-url
        send_resolved: true
        title: '{{ `{{ if eq .Status "resolved" }}ended{{ else }}{{ .CommonLabels.severity }}{{ end }}: {{ .CommonLabels.alertname }}` }}'
        text: |-
          {{ `{{ range .Alerts }}*{{ .Annotations.summary }}*` }}
          {{ `{{ .Annotations.description }} Runbook: {{ .Annotations.runbook_url }}` }}
          {{ `{{ end }}` }}
    {{- end }}
    {{- with $receivers.email }}
    {{- if .enabled }}
    email_configs:
      - to: {{ .to | quote }}
        from: {{ .from | quote }}
        smarthost: {{ .smarthost | quote }}
        {{- if .username }}
        auth_username: {{ .username | quote }}
        auth_password_file: {{ $files }}/smtp-password
        {{- end }}
        require_tls: {{ .requireTls }}
        send_resolved: true
    {{- end }}
    {{- end }}
  - name: heartbeat
    {{- if $receivers.heartbeat.enabled }}
    webhook_configs:
      - url_file: {{ $files }}/heartbeat-url
        send_resolved: false
    {{- end }}
{{- end }}
{{- end }}
