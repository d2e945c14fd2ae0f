"""What another MQTT broker asks about devices: may it come in, may it use this topic?"""
