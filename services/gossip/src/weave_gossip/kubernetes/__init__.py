"""What gossip does on Kubernetes. Imported only where a Node or a ConfigMap is configured.

The client is a few hundred lines over asyncio: lightkube with its models and HTTP client costs
10.4 MB of memory in every agent, and three kinds of objects are all that is spoken of here.
"""
