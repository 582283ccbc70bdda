"""`python -m tangential.kernels` compiles the kernel; see `build`."""

import sys

from tangential.kernels.build import main

sys.exit(main())
