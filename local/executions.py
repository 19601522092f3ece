"""The accounts of the stand-in and the samples, under the name that checks of the whole stack import."""

from local.studio.executions import ACCOUNT_SID, OTHER_ACCOUNT_SID

__all__ = ["ACCOUNT_SID", "OTHER_ACCOUNT_SID"]
