from local.cli import main

main(prog_name="cfm")
