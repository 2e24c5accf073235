"""What is done to the clients, one function a scenario. The catalogue says what each counts."""
