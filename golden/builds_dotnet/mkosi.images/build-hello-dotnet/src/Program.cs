// Hello-dotnet greets and says which runtime carries it.
using System.Runtime.InteropServices;

Console.WriteLine($"hello-dotnet: Hello, trust domain ({RuntimeInformation.FrameworkDescription})");
