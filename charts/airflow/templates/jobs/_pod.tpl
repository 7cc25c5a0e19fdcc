{{/*
Pod template to run `python -m pipeline ...` by hand: (dict "root" $ "arguments" (list "smoke")). It is like the pods that
stage_pod.py creates for the stages, but without access to the data API.
*/}}
{{- define "pipeline.pod" -}}
{{- $entry := include "lib.imageEntry" (dict "root" .root "name" "pipeline") | fromJson -}}
metadata:
  labels:
    {{- include "lib.labels" (dict "name" "pipeline") | nindent 4 }}
    {{- include "lib.access" (list "postgres" "minio" "mlflow") | nindent 4 }}
  annotations:
    {{- include "lib.origin" (dict "root" .root "name" "pipeline") | nindent 4 }}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: 3600
  terminationGracePeriodSeconds: 5
  serviceAccountName: pipeline
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "lib.podSecurity" dict | nindent 4 }}
  {{- with include "lib.placement" (dict "root" .root "name" "pipeline" "values" (pick .root.Values.pipeline "nodeSelector" "tolerations" "affinity")) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: base
      image: {{ include "lib.image" (dict "root" .root "name" "pipeline") }}
      imagePullPolicy: IfNotPresent
      args: {{ toJson .arguments }}
      env:
        - name: CODE_VERSION
          value: {{ $entry.tag | quote }}
        - name: COMMIT
          value: {{ $entry.commit | quote }}
        - name: IMAGE_DIGEST
          value: {{ $entry.digest | quote }}
      envFrom:
        - configMapRef:
            name: pipeline
        - secretRef:
            name: pipeline
      securityContext:
        {{- include "lib.containerSecurity" . | nindent 8 }}
      resources:
        requests: {cpu: 250m, memory: 1Gi}
        limits: {memory: 1Gi}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts:
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 2Gi
{{- end }}
