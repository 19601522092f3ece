"""A stand-in for Twilio Studio's REST API: for `make run`, `make serve`, tests and benchmarks.

In a test::

    with Studio() as studio:
        execution = studio.seed(FLOW_SID, contact="+15005550006")
        studio.fail(status=429, headers={"Retry-After": "1"})  # the next request
        ...  # requests to studio.url
        assert [request.status for request in studio.requests] == [429, 200]
"""

from local.faults import Fault as Fault
from local.faults import Faults as Faults
from local.studio.api import Request as Request
from local.studio.api import flow_of as flow_of
from local.studio.executions import ACCOUNT_SID as ACCOUNT_SID
from local.studio.executions import OTHER_ACCOUNT_SID as OTHER_ACCOUNT_SID
from local.studio.executions import Execution as Execution
from local.studio.executions import Executions as Executions
from local.studio.executions import NotFoundError as NotFoundError
from local.studio.executions import is_sid as is_sid
from local.studio.executions import new_sid as new_sid
from local.studio.server import API_KEY as API_KEY
from local.studio.server import AUTH_TOKEN as AUTH_TOKEN
from local.studio.server import OTHER_AUTH_TOKEN as OTHER_AUTH_TOKEN
from local.studio.server import Latency as Latency
from local.studio.server import Studio as Studio
