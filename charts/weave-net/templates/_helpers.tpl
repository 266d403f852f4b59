{{/* Everything is called weave-net, as its users expect it: one release per cluster. */}}
{{- define "weave-net.name" -}}
weave-net
{{- end }}

{{- define "weave-net.labels" -}}
{{ include "weave-net.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "weave-net.selector" -}}
name: weave-net
{{- end }}

{{- define "weave-net.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "weave-net.secretName" -}}
{{ .Values.mesh.secret.existingSecret | default "weave-net-mesh" }}
{{- end }}

{{/* Not empty where a Redis runs beside the services. */}}
{{- define "weave-net.redisBeside" -}}
{{- if and (eq .Values.store.type "redis") (not .Values.store.redis.url) (not .Values.store.redis.existingSecret) -}}
true
{{- end -}}
{{- end }}

{{/* Where the services keep their state, for those that do. */}}
{{- define "weave-net.storeEnv" -}}
{{- if eq .Values.store.type "redis" }}
{{- if .Values.store.redis.existingSecret }}
- name: WEAVE_STORE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.store.redis.existingSecret }}, key: url}}
{{- else }}
- {name: WEAVE_STORE_URL, value: {{ .Values.store.redis.url | default "unix:///run/weave/redis/redis.sock" | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* What the gossip container and the jobs need to speak to the API server. */}}
{{- define "weave-net.apiServerEnv" -}}
{{- with .Values.kubernetes.apiServer }}
- {name: WEAVE_KUBE_API_SERVER, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "weave-net.tokenVolume" -}}
- name: api-access
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{/* Environment of every service. */}}
{{- define "weave-net.commonEnv" -}}
- {name: WEAVE_LOG_LEVEL, value: {{ .Values.log.level }}}
- {name: WEAVE_LOG_FORMAT, value: {{ .Values.log.format }}}
{{- with .Values.otlpEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Probes over loopback; the argument is the port. Slow is not dead: it takes two minutes of silence. */}}
{{- define "weave-net.probes" -}}
startupProbe:
  httpGet: {host: 127.0.0.1, port: {{ . }}, path: /healthz}
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  httpGet: {host: 127.0.0.1, port: {{ . }}, path: /readyz}
  periodSeconds: 2
  timeoutSeconds: 5
livenessProbe:
  httpGet: {host: 127.0.0.1, port: {{ . }}, path: /healthz}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}

{{/* Resources of one service: a list of the root and the service's name. */}}
{{- define "weave-net.resources" -}}
{{- $root := index . 0 }}
{{- $default := dict "requests" (dict "cpu" "20m" "memory" "48Mi") }}
{{- toYaml (index $root.Values.resources (index . 1) | default $default) }}
{{- end }}
