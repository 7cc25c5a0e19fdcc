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
What values/images-<env>.yaml says of an image of this repository, as JSON with tag, digest ("" where only the tag
identifies it) and commit: (dict "root" $ "name" "pipeline").
*/}}
{{- define "lib.imageEntry" -}}
{{- $image := get ((.root.Values.global | default dict).images | default dict) .name }}
{{- if not $image }}
{{- fail (printf "global.images.%s is missing: run `make images`, which writes values/images-<env>.yaml, and pass that file with -f" .name) }}
{{- end }}
{{- dict
  "tag" (required (printf "global.images.%s.tag is empty" .name) $image.tag)
  "digest" ($image.digest | default "")
  "commit" ($image.commit | default "unknown")
  | toJson }}
{{- end }}

{{/*
Reference of an image of this repository: (dict "root" $ "name" "pipeline").
*/}}
{{- define "lib.image" -}}
{{- $entry := include "lib.imageEntry" . | fromJson }}
{{- (.root.Values.global | default dict).imageRegistry | default "localhost/house-platform" }}/{{ .name }}:{{ $entry.tag }}
{{- with $entry.digest }}@{{ . }}{{ end }}
{{- end }}

{{/*
Annotations by which a pod is traced to Git and to the registry: (dict "root" $ "name" "pipeline"), its image. Not
labels: a commit says nothing by which pods are selected. A Job's template never changes, so they are part of its name.
*/}}
{{- define "lib.origin" -}}
{{- $entry := include "lib.imageEntry" . | fromJson -}}
house-platform/commit: {{ $entry.commit | quote }}
{{- with $entry.digest }}
house-platform/image-digest: {{ . }}
{{- end }}
{{- end }}
