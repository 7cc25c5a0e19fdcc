{{/*
NetworkPolicy of one component. It allows only the listed connections, in both directions.

  (dict "root" $ "name" "mlflow"
        "ingress" (list (dict "access" "mlflow" "port" 5000))  pods with the label access/mlflow may connect to this port
        "ingressEnabled" true "page" 5000                      the ingress controller may connect to this port, or list
        "servers" (list "postgres" "minio")                    servers of lib.servers that the component may call
        "extra" $yaml)                                         more egress rules

Clients may be in the namespace of the platform or in the namespace of the pipeline's pods.
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
  {{- if or .ingress .ingressEnabled }}
  ingress:
    {{- /* Pods with the access label, in both namespaces, may connect to the port. */}}
    {{- range .ingress }}
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
    {{- /* The ingress controller may connect to the page. */}}
    {{- if .ingressEnabled }}
    - from:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ dig "ingress" "namespace" "kube-system" ($root.Values.global | default dict) }}
      ports:
        {{- range kindIs "slice" .page | ternary .page (list .page) }}
        - protocol: TCP
          port: {{ . }}
        {{- end }}
    {{- end }}
  {{- end }}
  egress:
    {{- /* Every component may resolve names. */}}
    {{- include "lib.egressDns" $root | nindent 4 }}
    {{- /* The component may call the listed servers. */}}
    {{- range .servers }}
    {{- include "lib.egressTo" (dict "root" $root "server" .) | nindent 4 }}
    {{- end }}
    {{- with .extra }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}

{{/*
NetworkPolicy that denies every connection of every pod in a namespace, in both directions:
(dict "name" "postgres" "namespace" "mlops"); `name` is the component that owns it. Policies add up, so a pod has the
connections that its own policies allow, and a pod without a policy of its own has none.
*/}}
{{- define "lib.defaultDeny" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny
  namespace: {{ .namespace }}
  labels:
    {{- include "lib.labels" (dict "name" .name) | nindent 4 }}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
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
Pods and port of each server. Rules of clients and rules of servers both use this list.
*/}}
{{- define "lib.servers" -}}
postgres: {name: postgres, port: 5432}
postgres-exporter: {name: postgres-exporter, port: 9187}
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
kube-state-metrics: {name: kube-state-metrics, port: 8080}
{{- range $name, $page := include "lib.pagesBehindLogin" . | fromYaml }}
login-{{ $name }}: {name: oauth2-proxy, port: {{ $page.metrics }}}
{{- end }}
{{- end }}

{{/*
Egress to one server of the platform: (dict "root" $ "server" "minio"). It uses ports of pods, because NetworkPolicies apply
after Services are resolved.
*/}}
{{- define "lib.egressTo" -}}
{{- $known := include "lib.servers" . | fromYaml }}
{{- $server := get $known .server | required (printf "lib.servers has no server %s: add a line to charts/lib/templates/_network.tpl" .server) }}
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
Egress to addresses outside the pod network: (dict "cidr" "10.46.0.1/32" "port" 6443); `cidr` may be a list.
*/}}
{{- define "lib.egressCidr" -}}
- to:
    {{- range kindIs "slice" .cidr | ternary .cidr (list .cidr) }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    - protocol: TCP
      port: {{ .port }}
{{- end }}

{{/*
Egress to the cluster's API servers. NetworkPolicies apply after the Service `kubernetes` is resolved, and that Service
spreads connections over all API servers, so the rule needs the address of each one.
*/}}
{{- define "lib.egressKubeApi" -}}
{{- $api := dig "kubeApi" dict (.Values.global | default dict) }}
{{- include "lib.egressCidr" (dict
  "cidr" (required "global.kubeApi.cidr is empty: set it to the API server's address, for example 10.46.0.1/32 (`kubectl -n default get endpointslices kubernetes` shows it). `make install` sets it by itself." ($api.cidr | default ""))
  "port" ($api.port | default 6443)) }}
{{- end }}

{{/*
Egress to the kubelet of every node. Without global.nodes.cidr the cluster has one node, at the address of the API server.
*/}}
{{- define "lib.egressKubelets" -}}
{{- $global := .Values.global | default dict }}
{{- include "lib.egressCidr" (dict
  "cidr" (dig "nodes" "cidr" "" $global | default (dig "kubeApi" "cidr" "" $global))
  "port" 10250) }}
{{- end }}
