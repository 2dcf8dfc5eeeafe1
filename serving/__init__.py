"""A compiled program in an app: guarded, over HTTP, as a tool over MCP."""
