from segstudy.cli import main

raise SystemExit(main())
