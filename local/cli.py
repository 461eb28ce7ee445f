def main() -> None:
    print("cfm")
