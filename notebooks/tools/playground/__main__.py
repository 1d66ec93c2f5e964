from notebooks.tools.playground import main

main()
