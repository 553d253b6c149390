"""The tests run file by file on two workers."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the workers share the machine's cores
