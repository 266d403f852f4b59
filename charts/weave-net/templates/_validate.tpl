{{/* Stops the rendering where values exclude each other. Types and forms are in values.schema.json. */}}
{{- define "weave-net.validate" -}}
{{- if .Values.encryption.enabled }}
{{- fail "encryption.enabled=true: packets between nodes cannot be encrypted yet; set encryption.enabled=false (mesh links are protected by mesh.secret)." }}
{{- end }}
{{- if .Values.networkPolicy.enabled }}
{{- fail "networkPolicy.enabled=true: the policy controller does not exist yet; set networkPolicy.enabled=false." }}
{{- end }}
{{- include "weave-net.onePerFamily" (list "ipam.ranges" .Values.ipam.ranges) }}
{{- include "weave-net.onePerFamily" (list "ipam.defaultSubnets" .Values.ipam.defaultSubnets) }}
{{- $hasIpv6 := contains ":" (join "," .Values.ipam.ranges) }}
{{- if and $hasIpv6 (gt (int .Values.mtu) 0) (lt (int .Values.mtu) 1280) }}
{{- fail (printf "mtu=%d: IPv6 needs at least 1280; raise mtu, set it to 0, or take the IPv6 range out of ipam.ranges." (int .Values.mtu)) }}
{{- end }}
{{- if and (not .Values.mesh.secret.enabled) .Values.mesh.secret.existingSecret }}
{{- fail (printf "mesh.secret.existingSecret=%s with mesh.secret.enabled=false: the Secret would not be used; set one of them otherwise." .Values.mesh.secret.existingSecret) }}
{{- end }}
{{- if and (eq .Values.store.type "sqlite") .Values.store.redis.url }}
{{- fail "store.redis.url is set with store.type=sqlite: the Redis would not be used; set store.type=redis or leave the url empty." }}
{{- end }}
{{- if and (eq .Values.store.type "sqlite") .Values.store.redis.existingSecret }}
{{- fail (printf "store.redis.existingSecret=%s with store.type=sqlite: the Redis would not be used; set store.type=redis or leave the name empty." .Values.store.redis.existingSecret) }}
{{- end }}
{{- if and .Values.store.redis.url .Values.store.redis.existingSecret }}
{{- fail (printf "store.redis.url is set beside store.redis.existingSecret=%s: one of them would not be used; leave one empty." .Values.store.redis.existingSecret) }}
{{- end }}
{{- /* In an address of a socket the path may hold an @; credentials stand before the first slash of the others. */}}
{{- if regexMatch "^rediss?://[^/]*@|[?&]password=" .Values.store.redis.url }}
{{- fail "store.redis.url holds a user or a password, which everybody who may read the DaemonSet would see; put the whole address into the key url of a Secret and name it by store.redis.existingSecret." }}
{{- end }}
{{- if and .Values.metrics.podMonitor.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.podMonitor.enabled=true with metrics.enabled=false: there would be nothing to scrape; set metrics.enabled=true." }}
{{- end }}
{{- end }}

{{- define "weave-net.onePerFamily" -}}
{{- $name := index . 0 }}
{{- $four := list }}
{{- $six := list }}
{{- range index . 1 }}
{{- if contains ":" . }}{{ $six = append $six . }}{{ else }}{{ $four = append $four . }}{{ end }}
{{- end }}
{{- range list $four $six }}
{{- if gt (len .) 1 }}
{{- fail (printf "%s: %s are of one address family; give one per family." $name (join " and " .)) }}
{{- end }}
{{- end }}
{{- end }}
