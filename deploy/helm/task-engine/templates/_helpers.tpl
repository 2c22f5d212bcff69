{{- define "task-engine.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "task-engine.labels" -}}
app.kubernetes.io/name: task-engine
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The port of config.admin.listen. */}}
{{- define "task-engine.adminPort" -}}
{{- dig "admin" "listen" ":9100" .Values.config | splitList ":" | last -}}
{{- end }}
