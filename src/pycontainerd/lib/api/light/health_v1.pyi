from pycontainerd.lib.api.codec import Message, Service

__all__ = ['HEALTH', 'HealthCheckRequest', 'HealthCheckResponse']

class HealthCheckRequest(Message):
    service: str
    def __init__(self, *, service: str = ...) -> None: ...

class HealthCheckResponse(Message):
    class ServingStatus:
        UNKNOWN = 0
        SERVING = 1
        NOT_SERVING = 2
        SERVICE_UNKNOWN = 3

    status: int
    def __init__(self, *, status: int = ...) -> None: ...

HEALTH: Service
