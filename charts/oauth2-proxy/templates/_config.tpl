{{/*
Configuration of the proxy of one page, in the format of oauth2-proxy's --alpha-config: (dict "root" $ "page" "streamlit"
"port" 8501 "metrics" 4101 "roles" (list "viewer") "password" ""). Only this format can pass the name of a local user on as its
group.
*/}}
{{- define "oauth2-proxy.config" -}}
{{- $oidc := .root.Values.oidc }}
{{- /* With a provider, `user` is an identifier that says nothing to people. */}}
{{- $user := ternary "email" "user" (ne $oidc.issuerUrl "") }}
server:
  bindAddress: 0.0.0.0:{{ .port }}
metricsServer:
  bindAddress: 0.0.0.0:{{ .metrics }}
upstreamConfig:
  upstreams:
    - id: {{ .page }}
      path: /
      uri: http://{{ .page }}.{{ .root.Release.Namespace }}.svc:{{ .port }}
      timeout: 2m  # of Prometheus for a query; the default is 30 s
# These headers replace headers of the same names that a visitor sends.
injectRequestHeaders:
  - name: X-Forwarded-User
    values:
      - claimSource: {claim: {{ $user }}}
  - name: X-Forwarded-Groups
    values:
      # a local user is named after its role
      - claimSource: {claim: {{ ternary "groups" "user" (ne $oidc.issuerUrl "") }}}
  # Tells a page with a login of its own that these headers are from here. No page gets the password of a visitor.
  - name: Authorization
    {{- with .password }}
    values:
      - claimSource:
          claim: {{ $user }}
          basicAuthPassword: {fromFile: /etc/oauth2-proxy/secret/{{ . }}}
    {{- end }}
providers:
  - id: oidc
    provider: oidc
    {{- if $oidc.issuerUrl }}
    clientID: {{ $oidc.clientId | quote }}
    clientSecretFile: /etc/oauth2-proxy/secret/oidc-client-secret
    scope: {{ $oidc.scope | quote }}
    code_challenge_method: S256
    allowedGroups:
      {{- range $role := .roles }}
      {{- range include "lib.groups" (dict "root" $.root "role" $role) | fromJsonArray }}
      - {{ . | quote }}
      {{- end }}
      {{- end }}
    {{- if $oidc.privateAuthority }}
    caFiles: [/etc/oauth2-proxy/secret/oidc-ca.crt]
    {{- end }}
    oidcConfig:
      issuerURL: {{ $oidc.issuerUrl | quote }}
      groupsClaim: {{ $oidc.groupsClaim | quote }}
      emailClaim: email
      audienceClaims: [aud]
      insecureSkipNonce: false
    {{- else }}
    # oauth2-proxy requires a provider. With local users nothing leads to this one: the page to sign in has no button for it.
    clientID: none
    clientSecret: none
    loginURL: http://oidc.invalid
    redeemURL: http://oidc.invalid
    oidcConfig:
      issuerURL: http://oidc.invalid
      jwksURL: http://oidc.invalid
      skipDiscovery: true
    {{- end }}
{{- end }}

{{/*
Keys of the Secret that the containers read, as a JSON list.
*/}}
{{- define "oauth2-proxy.keys" -}}
{{- $oidc := .Values.oidc }}
{{- $keys := list "cookie-secret" }}
{{- if $oidc.issuerUrl }}
{{- $keys = append $keys "oidc-client-secret" }}
{{- if $oidc.privateAuthority }}
{{- $keys = append $keys "oidc-ca.crt" }}
{{- end }}
{{- else }}
{{- range $page := include "lib.pagesBehindLogin" . | fromYaml }}
{{- $keys = append $keys (printf "%s-users" (first $page.roles)) }}
{{- end }}
{{- end }}
{{- range $page := include "lib.pagesBehindLogin" . | fromYaml }}
{{- with $page.password }}
{{- $keys = append $keys . }}
{{- end }}
{{- end }}
{{- $keys | uniq | toJson }}
{{- end }}

{{/*
Wrong values of `oidc`, as a JSON list of sentences.
*/}}
{{- define "oauth2-proxy.errors" -}}
{{- $oidc := .Values.oidc }}
{{- $wrong := list }}
{{- $configured := dig "login" "groups" dict (.Values.global | default dict) | default dict }}
{{- if $oidc.issuerUrl }}
{{- if not $oidc.clientId }}
{{- $wrong = append $wrong "oauth2-proxy.oidc.clientId is empty: set it to the id of this client at the identity provider" }}
{{- end }}
{{- if not $oidc.cidr }}
{{- $wrong = append $wrong "oauth2-proxy.oidc.cidr is empty: set it to the network of the identity provider, for example 10.43.100.106/32" }}
{{- end }}
{{- range $name, $page := include "lib.pagesBehindLogin" . | fromYaml }}
{{- $groups := list }}
{{- range $page.roles }}
{{- $groups = concat $groups (get $configured . | default list) }}
{{- end }}
{{- if not $groups }}
{{- $wrong = append $wrong (printf "global.login.groups has no group for the page %s, so nobody could use it: set at least one of %s" $name (join ", " $page.roles)) }}
{{- end }}
{{- end }}
{{- else if (include "lib.groups" (dict "root" $ "role" "local") | fromJsonArray | first | default "" | ne "local") }}
{{- $wrong = append $wrong "global.login.groups is set, but oauth2-proxy.oidc.issuerUrl is empty: set it to the URL of the identity provider, or remove the groups, which local users do not have" }}
{{- end }}
{{- $wrong | toJson }}
{{- end }}
