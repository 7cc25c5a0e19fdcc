{{- define "monitoring.grafana" -}}
datasources.yaml: |
  apiVersion: 1
  datasources:
    - name: Prometheus
      uid: prometheus
      type: prometheus
      url: http://prometheus:9090
      isDefault: true
dashboards.yaml: |
  apiVersion: 1
  providers:
    - name: house-platform
      type: file
      options:
        path: /dashboards
{{- end }}
