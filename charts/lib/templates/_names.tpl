{{/*
Labels of an object of component NAME: (dict "name" "postgres"). Selectors use lib.selector, which never changes.
*/}}
{{- define "lib.labels" -}}
{{ include "lib.selector" . }}
app.kubernetes.io/part-of: house-platform
app.kubernetes.io/managed-by: Helm
{{- end }}

{{- define "lib.selector" -}}
app.kubernetes.io/name: {{ required "lib.selector needs a name" .name }}
{{- end }}

{{/*
Labels that open the servers' doors to a pod: (list "postgres" "minio"). See lib.network.
*/}}
{{- define "lib.access" -}}
{{- range . }}
access/{{ . }}: "true"
{{- end }}
{{- end }}

{{/*
Image of this repository: (dict "root" $ "name" "pipeline"). Tag and digest come from values/images-<env>.yaml.
*/}}
{{- define "lib.image" -}}
{{- $global := .root.Values.global | default dict }}
{{- $registry := $global.imageRegistry | default "localhost/house-platform" }}
{{- $image := get ($global.images | default dict) .name }}
{{- if not $image }}
{{- fail (printf "global.images.%s is missing: run `make images`, which writes values/images-<env>.yaml, and pass that file with -f" .name) }}
{{- end }}
{{- $registry }}/{{ .name }}:{{ required (printf "global.images.%s.tag is empty" .name) $image.tag }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}
