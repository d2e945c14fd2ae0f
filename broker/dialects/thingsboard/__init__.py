"""ThingsBoard's MQTT device and gateway API.

https://thingsboard.io/docs/reference/mqtt-api/, https://thingsboard.io/docs/reference/gateway-api/
"""
