"""Who answers: the embedded LM, remote endpoints, budget and journal."""
