"""What tasks read: which example comes when, and how it becomes what a network takes."""
