"""Keys of the WSGI environ that the worker and the application agree on."""

# asks for NotQuick in place of an answer that would hold up the others
QUICK_ONLY = "digits.quick_only"
# the worker answers what has begun, and nothing new
STOPPING = "digits.stopping"
# when the request was whole, by time.monotonic
SINCE = "digits.since"
# by which its client and the logs know a request
REQUEST_ID = "digits.request_id"
