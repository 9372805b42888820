"""WSGI environ keys and the text of a 500, shared by the worker and the application."""

# A wrapper, in the manner of wsgi.file_wrapper, around a function without arguments
# that returns a WSGI body. An application that would block the event loop returns
# environ[DEFER](function) instead of a body, and the worker calls the function in a
# thread of its own; environ[DEFER](function, cost) means that it takes no longer than one
# picture: one thread calls all such functions in order, once their cost is admitted. Other
# servers do not set it.
DEFER = "digits.defer"
# set for a deferred function. environ[ADMIT](cost) adds to the cost of the request, in
# small pictures, and returns False if the worker has too much work: reply with 503.
# environ[IS_CANCELLED]() returns whether the client has left: then raise any exception
ADMIT, IS_CANCELLED = "digits.admit", "digits.is_cancelled"
# set if the worker has so much work that it will soon refuse requests
BUSY = "digits.busy"
# set if the worker finishes in-flight requests and accepts no new ones
STOPPING = "digits.stopping"
# when the last byte of the request was received, by time.monotonic
RECEIVED_AT = "digits.received_at"
# the route that counts the request in the metrics, if it is not the path
ROUTE = "digits.route"
# the id that the client sent, or a new one; in the reply and in every log line
REQUEST_ID = "digits.request_id"
# the hosts in X-Forwarded-Host, if a trusted proxy sent it
FORWARDED_HOSTS = "digits.forwarded_hosts"
# the detail of a reply with status 500
INTERNAL_ERROR = "internal server error: the service failed on this request"
