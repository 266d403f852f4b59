"""The shell every service runs in: configuration, logs, telemetry, gRPC life cycle, store."""
