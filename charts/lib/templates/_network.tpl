{{/*
NetworkPolicy of one component: nothing but what is listed passes, in either direction.

  (dict "root" $ "name" "mlflow"
        "doors" (list (dict "access" "mlflow" "port" 5000))    pods with the label access/mlflow may come in here
        "page" 5000                                            the ingress controller, too, where an Ingress is on
        "servers" (list "postgres" "minio")                    where it may go itself
        "extra" $yaml)                                         more egress rules

Clients come from the platform's namespace and from the one of the pipeline's pods.
*/}}
{{- define "lib.networkPolicy" -}}
{{- $root := .root }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "lib.labels" (dict "name" .name) | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "lib.selector" (dict "name" .name) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- if or .doors .ingressEnabled }}
  ingress:
    {{- range .doors }}
    - from:
        - podSelector:
            matchLabels:
              access/{{ .access }}: "true"
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ include "lib.jobsNamespace" $root }}
          podSelector:
            matchLabels:
              access/{{ .access }}: "true"
      ports:
        - protocol: TCP
          port: {{ .port }}
    {{- end }}
    {{- if .ingressEnabled }}
    - from:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ dig "ingress" "namespace" "kube-system" ($root.Values.global | default dict) }}
      ports:
        - protocol: TCP
          port: {{ .page }}
    {{- end }}
  {{- end }}
  egress:
    {{- include "lib.egressDns" $root | nindent 4 }}
    {{- range .servers }}
    {{- include "lib.egressTo" (dict "root" $root "server" .) | nindent 4 }}
    {{- end }}
    {{- with .extra }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "lib.jobsNamespace" -}}
{{ dig "jobsNamespace" (printf "%s-jobs" .Release.Namespace) (.Values.global | default dict) }}
{{- end }}

{{- define "lib.egressDns" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
  ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
{{- end }}

{{/*
Where each server listens: the one place that client and server side of a rule share.
*/}}
{{- define "lib.servers" -}}
postgres: {name: postgres, port: 5432}
postgres-metrics: {name: postgres, port: 9187}
minio: {name: minio, port: 9000}
mlflow: {name: mlflow, port: 5000}
airflow-api: {name: airflow-api, port: 8080}
airflow-logs: {name: airflow-scheduler, port: 8793}
fastapi: {name: fastapi, port: 8000}
streamlit: {name: streamlit, port: 8501}
datasource: {name: datasource, port: 8000}
prometheus: {name: prometheus, port: 9090}
alertmanager: {name: alertmanager, port: 9093}
grafana: {name: grafana, port: 3000}
{{- end }}

{{/*
Egress to one server of the platform: (dict "root" $ "server" "minio"). Ports are those of pods: rules act after
Services are resolved.
*/}}
{{- define "lib.egressTo" -}}
{{- $known := include "lib.servers" . | fromYaml }}
{{- $server := get $known .server | required (printf "lib.servers does not know %s" .server) }}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .root.Release.Namespace }}
      podSelector:
        matchLabels:
          {{- include "lib.selector" (dict "name" $server.name) | nindent 10 }}
  ports:
    - protocol: TCP
      port: {{ $server.port }}
{{- end }}

{{/*
Egress to an address outside of the pods: (dict "cidr" "10.46.0.1/32" "port" 6443).
*/}}
{{- define "lib.egressCidr" -}}
- to:
    - ipBlock:
        cidr: {{ .cidr }}
  ports:
    - protocol: TCP
      port: {{ .port }}
{{- end }}

{{/*
Egress to the cluster's API server; rules act after its Service is resolved, so its own address is needed.
*/}}
{{- define "lib.egressKubeApi" -}}
{{- $api := dig "kubeApi" dict (.Values.global | default dict) }}
{{- include "lib.egressCidr" (dict
  "cidr" (required "global.kubeApi.cidr is empty: set it to the API server's address, as 10.46.0.1/32 (`kubectl get endpointslices kubernetes`); `make install` does" $api.cidr)
  "port" ($api.port | default 6443)) }}
{{- end }}
