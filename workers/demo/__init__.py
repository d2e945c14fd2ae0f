"""The platform's main job on real data: NASA's turbofan engines, from history to webhook.

Everything goes over the public interfaces, as a customer's own programs would: the HTTP API, MQTT
and WebSockets. Only the account, the import of the history and the count of stored rows are made
where an administrator would make them, at the database.
"""
