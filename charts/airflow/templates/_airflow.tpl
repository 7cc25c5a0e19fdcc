{{/*
Environment of every Airflow container, in addition to the Secret `airflow`.
*/}}
{{- define "airflow.environment" -}}
AIRFLOW_HOME: /tmp/airflow
AIRFLOW__CORE__DAGS_FOLDER: /opt/airflow/dags
AIRFLOW__CORE__LOAD_EXAMPLES: "False"
AIRFLOW__CORE__EXECUTOR: LocalExecutor
AIRFLOW__CORE__PARALLELISM: {{ .Values.parallelism | quote }}
AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG: "1"
AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION: "False"
AIRFLOW__CORE__EXECUTION_API_SERVER_URL: http://airflow-api:8080/execution/
AIRFLOW__CORE__AUTH_MANAGER: house_login.HouseAuthManager
AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS: admin:ADMIN
# of the people whom the login of the platform (oauth2-proxy) signs in
{{- range $role := list "viewer" "operator" "admin" }}
LOGIN_{{ upper $role }}_GROUPS: {{ include "lib.groups" (dict "root" $ "role" $role) | fromJsonArray | join "," | quote }}
{{- end }}
AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE: /tmp/passwords.json
# the API server fetches logs of running tasks from the pod's IP address
AIRFLOW__CORE__HOSTNAME_CALLABLE: airflow.utils.net.get_host_ip_address
AIRFLOW__API__PORT: "8080"
AIRFLOW__API__WORKERS: "1"
AIRFLOW__API__EXPOSE_CONFIG: "False"
AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK: "True"
AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD: "30"
# a killed scheduler is detected after 20 s instead of 5 minutes
AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL: "20"
AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT: "120"
# tasks survive an outage of the API server of some minutes
AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS: "40"
# DAGs are part of the image: they do not change at run time
AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL: "300"
AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL: "120"
AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES: "1"
AIRFLOW__LOGGING__REMOTE_LOGGING: "True"
AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER: s3://airflow-logs/logs
AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID: minio
AIRFLOW__METRICS__OTEL_ON: {{ ternary "True" "False" .Values.metrics.enabled | quote }}
AIRFLOW__METRICS__LEGACY_NAMES_ON: "False"
OTEL_EXPORTER_OTLP_ENDPOINT: http://prometheus:9090/api/v1/otlp
OTEL_EXPORTER_OTLP_PROTOCOL: http/protobuf
OTEL_METRIC_EXPORT_INTERVAL: "30000"
PIPELINE_IMAGE: {{ include "lib.image" (dict "root" $ "name" "pipeline") }}
PIPELINE_COMMIT: {{ (include "lib.imageEntry" (dict "root" $ "name" "pipeline") | fromJson).commit | quote }}
PIPELINE_PLACEMENT: {{ pick .Values.pipeline "nodeSelector" "tolerations" "affinity" | toJson | quote }}
PIPELINE_NAMESPACE: {{ include "lib.jobsNamespace" . }}
PIPELINE_ENV_CONFIGMAP: pipeline
PIPELINE_ENV_SECRET: pipeline
PIPELINE_SCHEDULE: {{ .Values.pipeline.schedule | quote }}
{{- end }}

{{/*
Container of one Airflow program: (dict "root" $ "name" "scheduler" "resources" .Values.schedulerResources).
The caller adds ports, probes and volume mounts.
*/}}
{{- define "airflow.container" -}}
name: {{ .name }}
image: {{ include "lib.image" (dict "root" .root "name" "airflow") }}
imagePullPolicy: IfNotPresent
envFrom:
  - configMapRef:
      name: airflow
  - secretRef:
      name: airflow
env:
  - name: OTEL_SERVICE_NAME
    value: airflow-{{ .name }}
  {{- with .keepDays }}
  - name: KEEP_DAYS
    value: {{ . | quote }}
  {{- end }}
  {{- if .withoutMetrics }}
  - name: AIRFLOW__METRICS__OTEL_ON
    value: "False"
  {{- end }}
securityContext:
  {{- include "lib.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- end }}

{{/*
Init container that waits until the Job `airflow-migrate` has migrated the database to this version.
*/}}
{{- define "airflow.wait" -}}
{{ include "airflow.container" (dict "root" $ "name" "wait-for-database" "withoutMetrics" true
  "resources" (dict "requests" (dict "cpu" "50m" "memory" "192Mi") "limits" (dict "memory" "512Mi"))) }}
command: [airflow, db, check-migrations, -t, "300"]
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end }}

{{/*
Pod settings that all Airflow programs share: (dict "root" $ "name" "airflow-api" "values" .Values.api "failover" true);
Set "token" true for a pod that calls the Kubernetes API.
*/}}
{{- define "airflow.pod" -}}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
securityContext:
  {{- include "lib.podSecurity" dict | nindent 2 }}
{{- with include "lib.placement" . | trim }}
{{ . }}
{{- end }}
{{- end }}
