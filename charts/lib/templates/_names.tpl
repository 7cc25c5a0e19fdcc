{{/*
Labels of an object of a component: (dict "name" "postgres"). Selectors use lib.selector, because selectors cannot change.
*/}}
{{- define "lib.labels" -}}
{{ include "lib.selector" . }}
app.kubernetes.io/part-of: house-platform
app.kubernetes.io/managed-by: Helm
{{- end }}

{{- define "lib.selector" -}}
app.kubernetes.io/name: {{ required "lib.selector: the argument `name` is missing" .name }}
{{- end }}

{{/*
Labels that give a pod access to servers: (list "postgres" "minio"). See lib.networkPolicy.
*/}}
{{- define "lib.access" -}}
{{- range . }}
access/{{ . }}: "true"
{{- end }}
{{- end }}

{{/*
Entry of an image in values/images-<env>.yaml, as JSON with tag, digest ("" if the image has only a tag) and commit:
(dict "root" $ "name" "pipeline").
*/}}
{{- define "lib.imageEntry" -}}
{{- $image := get ((.root.Values.global | default dict).images | default dict) .name }}
{{- if not $image }}
{{- fail (printf "global.images.%s is missing: run `make images`, which writes values/images-<env>.yaml, and pass that file with -f" .name) }}
{{- end }}
{{- dict
  "tag" (required (printf "global.images.%s.tag is empty: run `make images`, which writes values/images-<env>.yaml" .name) $image.tag)
  "digest" ($image.digest | default "")
  "commit" ($image.commit | default "unknown")
  | toJson }}
{{- end }}

{{/*
Full reference of an image of this repository: (dict "root" $ "name" "pipeline").
*/}}
{{- define "lib.image" -}}
{{- $entry := include "lib.imageEntry" . | fromJson }}
{{- (.root.Values.global | default dict).imageRegistry | default "localhost/house-platform" }}/{{ .name }}:{{ $entry.tag }}
{{- with $entry.digest }}@{{ . }}{{ end }}
{{- end }}

{{/*
Annotations that trace a pod to the commit and the registry digest of its image: (dict "root" $ "name" "pipeline"). They are
not labels, because nobody selects pods by commit. The template of a Job is immutable, so the name of a Job must include
them in its hash.
*/}}
{{- define "lib.origin" -}}
{{- $entry := include "lib.imageEntry" . | fromJson -}}
house-platform/commit: {{ $entry.commit | quote }}
{{- with $entry.digest }}
house-platform/image-digest: {{ . }}
{{- end }}
{{- end }}
