"""The gRPC interfaces between the services, generated from proto/weave."""
