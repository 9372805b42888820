"""What a request may hold."""

MAX_BYTES = 16 * 2**20  # of a request's body
MAX_HEAD_BYTES = 64 * 2**10  # of its request line and headers
MAX_PICTURES = 1_000  # in a form
MAX_FIELDS = 10  # of a form beside its pictures
# Of one field that is no file. Werkzeug holds this limit against its buffer of 64 KiB
# too, with what is left in it from before: one as small refuses files now and then.
MAX_FIELD_BYTES = 256 * 2**10
MAX_PIXELS = 25_000_000  # of a picture: a 4,000 x 4,000 photo and some more
MAX_PIXELS_TOGETHER = 100_000_000  # of the pictures of a form, shared out evenly
MAX_IMAGES = 10_000  # of 28 x 28, in a bulk request
