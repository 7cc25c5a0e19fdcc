{{/*
Configuration of Prometheus. Targets are static, because the names of Services never change; DNS lists the predictor pods.
*/}}
{{- define "monitoring.prometheus" -}}
{{- $ns := .Release.Namespace }}
global:
  scrape_interval: {{ .Values.prometheus.scrapeIntervalSeconds }}s
  evaluation_interval: {{ .Values.prometheus.scrapeIntervalSeconds }}s
otlp:
  promote_resource_attributes: [service.name]
storage:
  tsdb:
    out_of_order_time_window: 10m
rule_files:
  - /etc/prometheus/rules/*.yaml
alerting:
  alertmanagers:
    - static_configs:
        - targets: [alertmanager:9093]
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: [localhost:9090]
  - job_name: alertmanager
    static_configs:
      - targets: [alertmanager:9093]
  {{- if .Values.grafana.enabled }}
  - job_name: grafana
    static_configs:
      - targets: [grafana:3000]
  {{- end }}
  {{- if .Values.kubeStateMetrics.enabled }}
  - job_name: kube-state-metrics
    static_configs:
      - targets: [kube-state-metrics:8080]
  {{- end }}
  {{- with .Values.targets }}
  {{- if .postgres }}
  - job_name: postgres-exporter
    static_configs:
      - targets: [postgres-exporter:9187]
  {{- end }}
  {{- if .minio }}
  - job_name: minio
    metrics_path: /minio/v2/metrics/cluster
    static_configs:
      - targets: [minio:9000]
  {{- end }}
  {{- if .mlflow }}
  - job_name: mlflow
    static_configs:
      - targets: [mlflow:5000]
  {{- end }}
  {{- if .fastapi }}
  - job_name: fastapi
    dns_sd_configs:
      - names: [fastapi-pods.{{ $ns }}.svc]
        type: A
        port: 8000
        refresh_interval: 15s
  {{- end }}
  {{- if .streamlit }}
  - job_name: streamlit
    metrics_path: /_stcore/metrics
    static_configs:
      - targets: [streamlit:8501]
  {{- end }}
  {{- if .login }}
  - job_name: oauth2-proxy
    static_configs:
      - targets:
          {{- range $page := include "lib.pagesBehindLogin" . | fromYaml }}
          - oauth2-proxy:{{ $page.metrics }}
          {{- end }}
  {{- end }}
  {{- if .datasource }}
  - job_name: datasource
    static_configs:
      - targets: [datasource:8000]
  {{- end }}
  {{- end }}
  # scrapes kubelets directly, which needs nodes/metrics only; the proxy of the API server would need more permissions
  {{- range $job, $path := dict "kubelet" "/metrics" "cadvisor" "/metrics/cadvisor" }}
  - job_name: {{ $job }}
    scheme: https
    metrics_path: {{ $path }}
    authorization:
      credentials_file: /var/run/secrets/kubernetes.io/serviceaccount/token
    tls_config:
      ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
      insecure_skip_verify: {{ dig "kubelet" "insecureSkipVerify" false ($.Values.global | default dict) }}
    kubernetes_sd_configs:
      - role: node
    metric_relabel_configs:
      - source_labels: [__name__]
        regex: (container_(cpu_usage_seconds_total|memory_working_set_bytes|spec_memory_limit_bytes|start_time_seconds|fs_usage_bytes|network_.*_bytes_total|cpu_cfs_throttled_.*)|kubelet_volume_stats_.*|kubelet_started_containers_errors_total|machine_.*)
        action: keep
      # of pods and claims only the platform's own; a series about a whole node has no namespace
      - source_labels: [namespace]
        regex: ({{ $ns }}|{{ include "lib.jobsNamespace" $ }})?
        action: keep
  {{- end }}
{{- end }}

{{/*
Names of the rule files of Prometheus, as a JSON list. The alert on old backups exists only where backups are made.
*/}}
{{- define "monitoring.ruleFiles" -}}
{{- $names := list }}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" }}
{{- $names = append $names (base $path) }}
{{- end }}
{{- if not (dig "backup" "enabled" false (.Values.global | default dict)) }}
{{- $names = without $names "BackupTooOld.yaml" }}
{{- end }}
{{- toJson $names }}
{{- end }}
